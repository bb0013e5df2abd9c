"""The benchmark: first tokens of every kind of turn, beside what people would use instead, and beside the floor.

How one row is made:

1. `classes` makes `Scenario`s: for one depth, a list of `Event`s that a repeat consists of. An event names its `Row` (or
   none, where it only prepares), the `Version` of the files that stands at that moment, who asks, and with which suffix.
   One row holds one kind of event at one depth, and nothing else. The tokens that a row states are asked of the model's
   tokenizer, and no question begins as one about the same files did (`texts`, `versions`): nothing of it is there.
2. `plan` repeats each scenario. At every event all `Side`s do the same thing one after the other, and each goes first in its
   turn; nobody works while another is timed (`quiet`). It stops when the row's intervals are narrow
   (`statistics`), or when the scenario's share of the time is spent.
3. Each side answers with a `Took`: milliseconds at the client's clock, and tokens by the side's own counters. The same
   repeat of two sides makes one pair; ratios are made of pairs.
4. `results` keeps every `Took` of every row, with all that is needed to repeat it, as JSON and CSV, and reads it back as
   input that nobody vouches for; `resume` goes on with a run that had no time for all rows. `judge` makes medians, ratios
   and shortfalls of it, and nothing else does. `table`, `plots` and `regression` show and hold what `judge` says.

The sides:

- `ours`: the daemon through its client, in a folder of real files. A turn brings the prefix up to date within its time. In
  a full run it finds out first how the model runs fastest, and the others run it like that; `machine` says what it found.
- `floor`: a bare loop (`floor_loop`) that computes the tokens that nobody could have had, once, at that depth, or copies
  back the bytes of those that were there before a restart. It knows what was seen before, and needs no search.
- `peer_server`: llama-server at its defaults and with its best flags; there a clever client warms it with the new
  prompt while somebody thinks, and saves and restores its slots.
- `peer_python`: the server example of llama-cpp-python, where what it needs can be installed.

Beside the rows: `day` (a git history replayed to all sides), `prompt_caching` (the table of older demonstrations),
`memory` (what one more session, workspace and engine take). `synthetic` writes models of a given shape with random
weights. `command` reads the command line and puts all of it together. `scripts/compare.py` shares the parts that both need:
`texts`, `turns`, `at_once`, `stamps`, `load`, `floor_process`, `llama_server`.
"""
