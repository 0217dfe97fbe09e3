"""Several runs that decide together.

plan       which trials of a sweep decide together (torch-free)
lines      what is said of it (torch-free)
members    the runs, read from their folders, and whether they go together
combine    their predictions as one, and the folder that holds it
soup       their weights as one
boosting   members that are trained one after the other, each on the mistakes of those before
"""
