"""Questions about swarms, each a file whose docstring asks it: `swarmllm simulate` lists them,
`python sims/NAME.py` runs one.

A study is a pure function of parameters and a seed (`sims.study`); `sims.frame` runs it over a
grid, on all cores or on a Dask cluster, and shows what was found. What is no question here serves
them: `crowd` (experts, some who ask, and what became of their answers), `sessions` (who comes and
goes when), `overlay`, `flood` and `shuffles` (models of how messages travel between very many
nodes).

The folder stands beside the package and is imported as `swarmllm.sims`: `swarmllm/sims` is a link
to it, which the wheel resolves. So nothing named `sims` is installed, and a checkout needs no
import hook.
"""
