"""Insert Split layers, so that every blob has one reader: ncnn frees a blob after its reader, and checks nothing."""

from __future__ import annotations

from segc.targets.ncnn.net.net import Blob, Layer, Net


def insert_splits(net: Net) -> None:
    """Add a Split behind each blob with several readers; being an output of the net counts as one reader.

    A layer that reads one blob twice (x * x) reads one copy twice. Callers address blobs by name: an input keeps its
    name, and of any other blob that is an output the extracted copy keeps it.
    """
    output_ids = {id(blob) for blob in net.outputs}
    used_names = {blob.name for layer in net.layers for blob in layer.outputs}
    all_readers = net.readers()
    layers: list[Layer] = []
    for layer in net.layers:
        layers.append(layer)
        for index, blob in enumerate(layer.outputs):
            readers = list({id(reader): reader for reader in all_readers.get(id(blob), [])}.values())
            is_output = id(blob) in output_ids
            if len(readers) + is_output < 2:
                continue
            source, copies = blob, [blob] if is_output else []
            if layer.type == "Input" and is_output:
                copies = [Blob(_free_name(used_names, f"{blob.name}_same"), blob.shape)]
                net.outputs = [copies[0] if b is blob else b for b in net.outputs]
            elif layer.type != "Input":
                layer.outputs[index] = source = Blob(_free_name(used_names, f"{blob.name}_whole"), blob.shape)
            for i, reader in enumerate(readers):
                copy = Blob(_free_name(used_names, f"{blob.name}_for{i}"), blob.shape)
                reader.inputs = [copy if b is blob else b for b in reader.inputs]
                copies.append(copy)
            layers.append(Layer("Split", f"{source.name}_split", [source], copies, node=layer.node))
    net.layers = layers


def _free_name(used: set[str], wanted: str) -> str:
    while wanted in used:
        wanted += "_"
    used.add(wanted)
    return wanted
