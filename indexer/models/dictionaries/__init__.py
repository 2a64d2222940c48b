"""Dictionaries: sparse autoencoders, transcoders and directions, read from the files that others
write and from our own.
"""
