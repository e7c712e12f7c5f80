"""Give each reader of a blob a copy of its own: ncnn frees a blob after its only reader, and checks nothing."""

from __future__ import annotations

from segc.targets.ncnn.net.net import Blob, Layer, Net


def insert_splits(net: Net) -> None:
    """Add a Split behind each blob with several readers; an output of the net counts as a reader.

    A layer that reads one blob twice (x * x) takes it once from its copy. Those outside know blobs by their names: an
    input keeps its own, and of any other blob the copy that is an output.
    """
    outputs = {id(blob) for blob in net.outputs}
    taken = {blob.name for layer in net.layers for blob in layer.outputs}
    users = net.users()
    layers: list[Layer] = []
    for layer in net.layers:
        layers.append(layer)
        for at, blob in enumerate(layer.outputs):
            readers = list({id(user): user for user in users.get(id(blob), [])}.values())
            external = id(blob) in outputs
            if len(readers) + external < 2:
                continue
            whole, copies = blob, [blob] if external else []
            if layer.type == "Input" and external:
                copies = [Blob(_free(taken, f"{blob.name}_same"), blob.shape)]
                net.outputs = [copies[0] if b is blob else b for b in net.outputs]
            elif layer.type != "Input":
                layer.outputs[at] = whole = Blob(_free(taken, f"{blob.name}_whole"), blob.shape)
            for i, reader in enumerate(readers):
                copy = Blob(_free(taken, f"{blob.name}_for{i}"), blob.shape)
                reader.inputs = [copy if b is blob else b for b in reader.inputs]
                copies.append(copy)
            layers.append(Layer("Split", f"{whole.name}_split", [whole], copies, node=layer.node))
    net.layers = layers


def _free(taken: set[str], wanted: str) -> str:
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted
