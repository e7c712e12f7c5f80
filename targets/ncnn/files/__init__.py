"""The files of an ncnn bundle.

write: .param and .bin. read_back: compares them with the net. fp16_weights: which weights are stored as float16.
layer_list: layers.txt, the source line of each layer.
"""
