"""The net in memory.

net: layers, blobs, weights. params: parameter ids of ncnn's layers. layer_checks, layer_checks_maps: what each layer
accepts, and the shapes it computes. def_use: producers and readers of blobs. fuse, fuse_attention: layer fusions.
splits: Split layers, so that each blob has one reader.
"""
