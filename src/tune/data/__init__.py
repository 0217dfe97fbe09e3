"""From files to batches. Read in this order: table, readers/, splits, images, transforms, samplers, module.

What stands before ``transforms`` never imports torch, so that mistakes in the data are seen within a second.
"""
