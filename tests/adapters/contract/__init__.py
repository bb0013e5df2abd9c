"""What every adapter must do, told as tests that each of them passes.

`subjects.SUBJECTS` lists the adapters and their models. Each model is loaded once a session; `-k llama-cpp` or
`-m "not model"` picks.
"""
