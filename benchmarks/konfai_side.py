"""KonfAI 1.8.7 beside us: the paper's network as its model, the settings of a training, and whole processes timed."""

import resource
import subprocess
import time

MODEL = """
import segmentation_models_pytorch as smp
import torch
from konfai.network import network


class Head(network.ModuleArgsDict):
    def __init__(self):
        super().__init__()
        self.add_module("Tanh", torch.nn.Tanh())


class UNetpp5(network.Network):
    def __init__(self, optimizer: network.OptimizerLoader = network.OptimizerLoader(),
                 schedulers: dict[str, network.LRSchedulersLoader] = {"default|StepLR": network.LRSchedulersLoader()},
                 outputs_criterions: dict[str, network.TargetCriterionsLoader] = {
                     "default": network.TargetCriterionsLoader()}):
        super().__init__(in_channels=5, optimizer=optimizer, schedulers=schedulers,
                         outputs_criterions=outputs_criterions, dim=2)
        self.add_module("model", smp.UnetPlusPlus("resnet34", encoder_weights=None, in_channels=5, classes=1,
                                                  decoder_channels=(256, 128, 64, 32, 16), activation=None))
        self.add_module("Head", Head())
"""

TRAINING = """
Trainer:
  Model:
    classpath: UNetpp:UNetpp5
    UNetpp5:
      optimizer: {{name: AdamW, lr: 0.001, weight_decay: 0.001}}
      schedulers:
        StepLR: {{nb_step: 0, step_size: 100000, gamma: 0.5}}
      outputs_criterions:
        Head:Tanh:
          targets_criterions:
            CT:
              criterions_loader:
                torch:nn:L1Loss: {{is_loss: true}}
  Dataset:
    groups_src:
      MR:
        groups_dest:
          MR: {{transforms: None, patch_transforms: None, is_input: true}}
      CT:
        groups_dest:
          CT: {{transforms: None, patch_transforms: None, is_input: false}}
    augmentations: None
    Patch: {{patch_size: [1, {patch}, {patch}], overlap: None, pad_value: -1, extend_slice: 4}}
    subset: None
    validation: None
    dataset_filenames: ["./Dataset:a:mha"]
    batch_size: {batch}
  train_name: Out
  manual_seed: 32
  epochs: {epochs}
  it_validation: 1000000
  gpu_checkpoints: None
  data_log: None
  save_checkpoint_mode: BEST
"""


def process(command, directory, environment) -> tuple[float, float]:
    """CPU seconds and wall seconds of a program, its children included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - start
