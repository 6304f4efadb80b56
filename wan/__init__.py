"""Wan image to video, character animation and replacement as a plain Python library.

The rooms are the stages in running order: load, encode, preprocess, sample, decode, upsample,
save, service. Imports go one way, from later stages to earlier ones and to the foundation.
Nothing heavy is imported until it is used.
"""
