"""Other engines beside ours: the same five trivial steps, in turn, in the same minutes.

`__main__` and `turn` run where Regie runs. The modules `on_...` run in the peers' own environment and import nothing of
Regie; `answering` is what both sides know.
"""
