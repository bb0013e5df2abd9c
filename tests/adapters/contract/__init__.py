"""What every adapter must do, told as tests that each of them passes.

`kit.SUBJECTS` lists the adapters. Each loads its model once a session; `-k llama-cpp` or `-m "not model"` picks.
"""
