"""The shipped graphs, each described once."""

from graphs_animate import ANIMATE_GRAPHS
from graphs_i2v import I2V_GRAPHS

GRAPHS = (*I2V_GRAPHS, *ANIMATE_GRAPHS)
