"""Makes tests/fixtures/graphs/exporters: real exports of narrow networks, and what the frameworks say of them.

    .cnncodes/export-torchvision/bin/python scripts/reference/make_exporter_fixtures.py torchvision
    .cnncodes/export-keras/bin/python scripts/reference/make_exporter_fixtures.py keras

The networks are torchvision's and Keras's own code with a few channels a layer. For every layer that cnncodes is
to find, tests/reference/exporters.json has the framework's own name of it and sums of its activations on one image,
taken by forward hooks (PyTorch) or sub-models (Keras), channels first.
"""

import json
import pathlib
import sys
import types

import numpy as np
import onnx

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAPHS = ROOT / "tests" / "fixtures" / "graphs" / "exporters"
REFERENCE = ROOT / "tests" / "reference" / "exporters.json"
SIDE = 224


def image():
    """3 x SIDE x SIDE, by a formula that the tests can repeat."""
    channel, row, column = np.ogrid[:3, :SIDE, :SIDE]
    return (((channel * 89 + row * 31 + column * 17) % 256 - 128) / 64).astype(np.float32)


def summary(name, values):
    values = values.reshape(-1).astype(np.float64)
    return {
        "framework": name,
        "width": len(values),
        "sum": float(values.sum()),
        "squares": float((values**2).sum()),
        # Tells rows that are channels first from those that are not.
        "ordered": float((values * (np.arange(len(values)) % 97)).sum() / 97),
    }


def save(results):
    known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    known |= results
    REFERENCE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def strip(path):
    """Leaves out what an exporter writes of the machine that it ran on."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    onnx.save(model, path)
    assert path.stat().st_size <= 150_000, (path, path.stat().st_size)


def torchvision():
    import torch
    from torch import nn
    from torchvision.models import resnet, vgg

    from export_torchvision import export, vary_batch_norm

    class Narrow(resnet.ResNet):
        def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
            if planes == 64:
                self.inplanes = 2
                self.conv1 = nn.Conv2d(3, 2, 7, 2, 3, bias=False)
                self.bn1 = self._norm_layer(2)
            return super()._make_layer(block, planes // 32, blocks, stride, dilate)

    def narrow_resnet(block, blocks, **width):
        model = Narrow(block, blocks, **width)
        model.fc = nn.Linear(16 * block.expansion, 5)
        return model

    def narrow_vgg(letter, batch_norm):
        plan = [step if step == "M" else step // 32 for step in vgg.cfgs[letter]]
        model = vgg.VGG(vgg.make_layers(plan, batch_norm=batch_norm))
        inputs = iter([16 * 49, 8, 8])
        outputs = iter([8, 8, 5])
        dense = [nn.Linear(next(inputs), next(outputs)) if isinstance(m, nn.Linear) else m for m in model.classifier]
        model.classifier = nn.Sequential(*dense)
        return model

    def names_of_vgg(model):
        block, position = 1, 0
        for index, module in enumerate(model.features):
            if isinstance(module, nn.ReLU):
                position += 1
                yield f"conv{block}_{position}", f"features.{index}"
            elif isinstance(module, nn.MaxPool2d):
                yield f"pool{block}", f"features.{index}"
                block, position = block + 1, 0
        yield from (("fc6", "classifier.1"), ("fc7", "classifier.4"), ("fc8", "classifier.6"))

    def names_of_resnet(model):
        yield from (("conv1", "relu"), ("pool1", "maxpool"))
        for stage in range(1, 5):
            for block in range(len(getattr(model, f"layer{stage}"))):
                yield f"res{stage + 1}{'abcdef'[block]}", f"layer{stage}.{block}"
        yield from (("pool5", "avgpool"), ("fc1000", "fc"))

    class Preprocessing(nn.Module):
        """A network that normalises its input itself."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
            return self.model((x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))

    torch.manual_seed(0)
    plain, normalised = narrow_vgg("A", False), narrow_vgg("A", True)
    resnet18 = narrow_resnet(resnet.BasicBlock, [2, 2, 2, 2])
    resnext50 = narrow_resnet(resnet.Bottleneck, [3, 4, 6, 3], groups=2, width_per_group=32)
    cases = {
        "torchvision_vgg11_preprocessing": (Preprocessing(plain), plain, "VGG11", "legacy"),
        "torchvision_vgg11_bn_legacy": (normalised, normalised, "VGG11", "legacy"),
        "torchvision_vgg11_bn_dynamo": (normalised, normalised, "VGG11", "dynamo"),
        "torchvision_resnet18_dynamo": (resnet18, resnet18, "ResNet18", "dynamo"),
        "torchvision_resnext50": (resnext50, resnext50, "ResNeXt50, stride in the 3x3 convolutions (v1.5)", "legacy"),
    }
    results = {}
    for name, (whole, model, architecture, exporter) in cases.items():
        vary_batch_norm(model)
        whole.eval()
        path = GRAPHS / f"{name}.onnx"
        export(whole, path, exporter)
        strip(path)
        names = list((names_of_vgg if hasattr(model, "features") else names_of_resnet)(model))
        layers = {}
        modules, hooks = dict(model.named_modules()), []
        for canonical, module in names:

            def keep(_module, _inputs, output, canonical=canonical, module=module):
                layers[canonical] = summary(module, output.detach().numpy())

            hooks.append(modules[module].register_forward_hook(keep))
        with torch.no_grad():
            whole(torch.from_numpy(image()[None]))
        for hook in hooks:
            hook.remove()
        results[name] = {"architecture": architecture, "layers": {canonical: layers[canonical] for canonical, _ in names}}
    results["torchvision_vgg11_bn_nameless"] = nameless(results["torchvision_vgg11_bn_legacy"])
    save(results)


def nameless(reference):
    """The folded export as PyTorch before 1.13 wrote it: nothing tells the numbers of the folded modules."""
    model = onnx.load(GRAPHS / "torchvision_vgg11_bn_legacy.onnx")
    new = {}
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
        new |= {output: str(100 + index) for output in node.output if output != "output"}
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    del model.graph.value_info[:]
    onnx.save(model, GRAPHS / "torchvision_vgg11_bn_nameless.onnx")
    layers = {
        name: layer | {"framework": None if layer["framework"].startswith("features.") else layer["framework"]}
        for name, layer in reference["layers"].items()
    }
    return reference | {"layers": layers}


def keras():
    from export_keras import export, keras, vary
    from keras.src.applications import resnet, vgg16

    real = keras.layers

    def narrow(divisor):
        conv = lambda filters, *rest, **options: real.Conv2D(filters // divisor, *rest, **options)  # noqa: E731
        dense = lambda units, *rest, **options: real.Dense(8 if units == 4096 else units, *rest, **options)  # noqa: E731
        return types.SimpleNamespace(**{**vars(real), "Conv2D": conv, "Dense": dense})

    vgg16.layers, resnet.layers = narrow(32), narrow(64)
    top = {"weights": None, "classes": 5}
    headless = {"weights": None, "include_top": False, "input_shape": (SIDE, SIDE, 3)}
    stride = "ResNet50, stride in the 1x1 convolutions"
    keras.utils.set_random_seed(0)
    cases = {
        "keras_vgg16": (vgg16.VGG16(**top), "VGG16", 17),
        "keras_vgg16_notop": (vgg16.VGG16(**headless), "VGG16 without its three dense layers", 17),
        "keras_resnet50": (resnet.ResNet50(**top), stride, 17),
        "keras_resnet50_opset18": (resnet.ResNet50(**top), stride, 18),
        "keras_resnet50_notop": (resnet.ResNet50(**headless), f"{stride}, without its last pool and dense layer", 17),
    }
    blocks = [("res", stage, block) for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)) for block in range(count)]
    results = {}
    for name, (model, architecture, opset) in cases.items():
        vary(model, 0)
        path = GRAPHS / f"{name}.onnx"
        export(model, path, opset)
        strip(path)
        places = {layer.name: layer.output for layer in model.layers}
        if "vgg" in name:
            names = {}
            for place in places:
                if place.startswith("block"):
                    block, kind = place[5], place.split("_")[1]
                    names[f"pool{block}" if kind == "pool" else f"conv{block}_{kind[4:]}"] = place
            names |= {"fc6": "fc1", "fc7": "fc2", "fc8": None, "prob": "predictions"} if "fc1" in places else {}
        else:
            names = {"conv1": "conv1_relu", "pool1": "pool1_pool"}
            names |= {f"res{stage}{'abcdef'[block]}": f"conv{stage}_block{block + 1}_out" for _, stage, block in blocks}
            names |= {"pool5": "avg_pool", "fc1000": None, "prob": "predictions"} if "avg_pool" in places else {}
        outputs = keras.Model(model.inputs, {key: places[place] for key, place in names.items() if place})
        values = outputs.predict(image().transpose(1, 2, 0)[None], verbose=0)
        layers = {}
        for canonical, place in names.items():
            if place is None:
                # Keras has no layer for the scores under its softmax.
                last = model.layers[-1]
                below = keras.Model(model.inputs, last.input).predict(image().transpose(1, 2, 0)[None], verbose=0)
                layers[canonical] = summary(None, below @ last.kernel.numpy() + last.bias.numpy())
            else:
                value = values[canonical]
                layers[canonical] = summary(place, value.transpose(0, 3, 1, 2) if value.ndim == 4 else value)
        results[name] = {"architecture": architecture, "layers": layers}
    save(results)


if __name__ == "__main__":
    GRAPHS.mkdir(parents=True, exist_ok=True)
    {"torchvision": torchvision, "keras": keras}[sys.argv[1]]()
