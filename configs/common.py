# SPDX-License-Identifier: Apache-2.0
"""Shared parts of all configs: defaults, typed arguments, and `:debug`.

A config is a file with get_config(arg) that returns a ConfigDict of plain data. A value whose order
matters is a tuple; the order of dict keys never matters. On the command line,
`--config F:name=value,flag` passes arguments, and `--config.a.b=v` changes one key. An unknown key
is an error.
"""

from ml_collections import ConfigDict, FieldReference


def prompt_lengths(longest: int) -> tuple[int, ...]:
  """The lengths to which prompts are padded, so that few programs are compiled.

  Four between a power of 2 and its double: 64, 80, 96, 112, 128, 160, ... 4096. Longer ones have
  512 more, for the words: a video often has a power of 2 of visual tokens. `longest` is without
  these 512. Padding makes a prompt longer by a quarter at most.
  """
  lengths = []
  step = 16
  while 4 * step < 4096:
    lengths += [4 * step, 5 * step, 6 * step, 7 * step]
    step *= 2
  lengths.append(4096)
  while 4 * step < longest:
    lengths += [size * step + 512 for size in (4, 5, 6, 7)]
    step *= 2
  return (*lengths, longest + 512)


DEBUG_CORPUS = "runs/debug_corpus"


def base() -> ConfigDict:
  """All keys of a config, with FiLA-Video's values.

  Each stage changes the keys that differ.
  """
  c = ConfigDict()
  c.seed = 0  # Of the first parameters, the order of the data, and all random draws.
  c.init_from = ""  # A workdir, a checkpoint or a released folder: the parameters to start from.
  c.ignore_fingerprint = False  # Resume although the plan of rows has changed since the checkpoint.
  c.model = fila_model()
  c.infer = fila_infer()
  c.data = data()
  c.optim = llava_optim()
  c.lora = lora()
  c.batch = 1  # Packed rows per optimizer step.
  c.steps = 0  # Optimizer steps; 0 = `epochs` times through the data.
  c.epochs = 1.0
  c.log_every = 10  # Steps between two lines of progress.
  c.trackers = ("tensorboard",)  # Beside metrics.jsonl: tensorboard | wandb | trackio, or ().
  c.checkpoint_every = 500  # Steps between two checkpoints.
  c.keep = 2  # Number of newest checkpoints to keep; 0 = all.
  # Evaluations during training: rows of (manifest or benchmark, every, limit[, data[, protocol]]).
  # The model answers the first `limit` questions (0 = all) after every `every` steps and after the
  # last step. data: the folder of the benchmark, or of a manifest's media.
  c.evals = ()
  c.evals_batch = 8  # Prompts answered at a time, rounded up to whole rows of the mesh.
  c.best = ""  # eval/NAME/SCORE: keep the checkpoint with the best score; -eval/…: with the least.
  c.stall_seconds = 600.0  # A run without a step for so long ends and prints its stacks; 0 = never.
  c.mesh = dict(data=1, fsdp=-1, seq=1, tensor=1)  # Axis sizes; -1 = the remaining devices.
  c.peak_tflops = 0.0  # Peak of one device, for MFU; 0 = from a table of known devices.
  c.profile = ""  # "10:15" traces steps 10 to 14 with jax.profiler; "" = no trace.
  c.debug_corpus = ""  # A folder in which `filax train` first makes a tiny corpus.
  return c


def fila_model() -> dict:
  """FiLA-Video-7B: SigLIP, groups of three frames, weighted fusion, MLP, Qwen2-7B."""
  return dict(
    encoder=dict(name="siglip", variant="so400m-384", remat="auto"),
    selector=dict(name="uniform", size=3),
    merger=dict(name="weighted"),
    projector=dict(name="mlp", newline="one_token", pool_side=2),
    llm=qwen2("7B"),
    merge_stage="vision",  # vision | projector | pool: where frames of a group are merged.
    dtype="bfloat16",  # Dtype of computation.
    param_dtype="float32",  # Dtype of frozen parameters. What is trained is stored in float32.
  )


def qwen2(variant: str, **more) -> dict:
  """The settings of a Qwen2 language model.

  attention: the kernel. sequence: the strategy over the mesh axis seq. more: other settings, or
  other values of these.
  """
  settings = dict(name="qwen2", variant=variant, remat="auto", attention="auto", sequence="gather")
  return settings | more


def fila_infer() -> dict:
  """Inference settings: 256 candidate frames, K-Means to 32 scenes of 3."""
  return dict(
    selector=dict(name="kmeans", scenes=32, size=3, history="similar", seeds="farthest", steps=50),
    sampling=dict(name="uniform", frames=256, phase="ends"),
    lengths=prompt_lengths(32_768),  # A prompt is padded to one of these lengths.
    max_new_tokens=256,  # The most tokens of an answer.
    temperature=0.0,  # 0 = greedy.
    top_p=1.0,  # Sample from the likeliest tokens that together have this probability.
  )


def data() -> dict:
  """The data settings: sources, preprocessing and packing.

  configs/README.md explains the values of sampling, images, template, labels and time_prompt.
  """
  return dict(
    train=(("manifest.json", "all"),),  # (manifest, all | first:N | end:N | random:N), N or N%.
    root="",  # Folder of the media; "" = the manifest's own.
    tokenizer="tokenizer.json",  # A tokenizer.json, or a sentencepiece *.model.
    template="chatml",  # chatml | brief | plain | chat (the tokenizer's own)
    system="You are a helpful assistant.",  # "" = no system turn.
    labels="llava",  # llava | answer_only: which tokens are learned.
    # The sentence about frame times in a question.
    time_prompt="none",  # none | fila | llava | vcf | vcf_released
    sampling=dict(name="uniform", frames=96, phase="ends"),  # ends | middle | random | released
    resize="squash",  # squash | pad | pillow: how frames become square; pillow is Pillow's bicubic.
    images=dict(mode="squash", tiles=1),  # squash | pad | anyres | anyres_nopad
    rows=(row_shape(frames=96, positions=8192),),  # Up to three sizes of packed rows.
    packing=False,  # False: one sample a row.
    # Random gaps spread the positions of a sample over a range of this size, so that short samples
    # train large positions (docs/long_video.md); 0 = no gaps.
    position_gaps=0,
    too_long="skip",  # skip | error: samples that are longer than a row.
    exclude="",  # A quarantine.jsonl whose media are left out.
    cache="",  # A folder for decoded frames; "" = none.
    threads=2,  # Threads that prepare rows, in the run's process or in each worker.
    workers=0,  # Worker processes that prepare rows; 0 = threads alone.
    prefetch=2,  # Batches prepared in advance.
    open_seconds=10.0,  # The most time to open a medium.
    decode_seconds=60.0,  # The most time for one read of a medium.
    # The most pixels of a picture; larger JPEGs are read at 1/2, 1/4 or 1/8 of their size. With 24
    # million the simultaneous copies of a picture take less than 256 MB.
    image_pixels=24_000_000,
  )


def row_shape(positions: int, frames: int = 0, images: int = 0, samples: int = 1) -> tuple:
  """The size of a packed row, for config.data.rows.

  positions: text and visual tokens. frames, images: how many a row can hold. samples: the most
  samples that share a row. The result is the tuple (frames, images, positions, samples), which is
  also how a row is written on the command line.
  """
  return frames, images, positions, samples


def llava_optim() -> dict:
  """The optimizer, by default AdamW with the settings of LLaVA's scripts.

  `rates` and `decay` are rows of (regex, value); the first match wins.
  """
  return dict(
    kind="adamw",  # adamw | lion | muon | adafactor | schedule_free
    rates=(("", 1e-5),),  # Peak learning rates; 0 freezes.
    decay=(("", 0.0),),  # Weight decay.
    warmup=0.03,  # A share of the steps if below 1, else steps.
    final=0.0,  # The last learning rate, as a share of the peak.
    b1=0.9,  # The optimizer's beta 1; in AdamW the decay of the first moment.
    b2=0.999,  # The optimizer's beta 2; in AdamW the decay of the second moment.
    eps=1e-8,  # A small number that prevents a division by zero.
    ema=0.0,  # Decay of an average of the trained parameters, such as 0.999; 0 = no average.
    clip=1.0,  # Largest global gradient norm; 0 = no clipping.
    # Micro-batches a step: a number; 0 = as many as give every device one row at a time; "auto" =
    # chosen together with remat="auto".
    accumulate=_number_or_word("auto"),
    reduction="sample_mean",  # sample_mean (LLaVA) | token_mean
    loss_chunk=1024,  # Positions whose logits are computed at a time.
  )


def _number_or_word(value: int | str) -> FieldReference:
  """A setting whose overrides may be numbers or words."""
  return FieldReference(value, field_type=object)


def lora(ranks: tuple = (), **more) -> dict:
  """The settings of low-rank adapters (LoRA); without `ranks` there are none.

  `ranks` are rows of (regex over the paths of kernels, rank). The first match wins, and rank 0
  means no adapter. Give the adapters a learning rate in config.optim.rates: ("lora_[ab]$", 2e-4).
  """
  settings = dict(
    ranks=ranks,
    alpha=16.0,  # The output of an adapter is multiplied by alpha / rank.
    dropout=0.0,  # Share of an adapter's inputs that training drops.
    base="same",  # same | int8 | nf4: how the kernels of all blocks are stored.
  )
  return settings | more


def adapt(c: ConfigDict) -> None:
  """Trains only adapters of the language model, with all weights on every device.

  The base is stored in bfloat16, the adapters and their optimizer moments in float32. Each device
  computes one row at a time.
  """
  c.lora = lora((("^llm/layers/", 16),), alpha=32.0)
  c.optim.rates = (("lora_[ab]$", 2e-4), ("", 0.0))
  c.optim.accumulate = 0
  c.model.param_dtype = "bfloat16"
  c.model.llm.remat = "nothing"
  c.batch = 16
  c.mesh = dict(data=-1, fsdp=1, seq=1, tensor=1)


def shard_sequence(c: ConfigDict, seq: int) -> None:
  """Splits the sequence of a row over groups of `seq` devices.

  Each group computes one row at a time. Parameters are sharded over all devices, whose number must
  be a multiple of `seq`. A 7B model then fits on 256 devices of 16 GB, or on 64 devices of 95 GB
  (docs/plan.md).
  """
  c.mesh = dict(data=1, fsdp=-1, seq=seq, tensor=1)


def parse_arg(arg: str | None, **defaults) -> ConfigDict:
  """Parses the argument of a config, such as "steps=3,debug".

  Returns `defaults` with the values of the argument, each converted to the type of its default. A
  name without a value is True. Raises ValueError for an unknown name or a value of another type.
  """
  values = dict(defaults)
  for item in filter(None, (arg or "").split(",")):
    name, equals_sign, text = item.partition("=")
    if name not in defaults:
      names = ", ".join(sorted(defaults)) or "none"
      raise ValueError(f"The config takes no argument {name!r}. It takes {names}.")
    if not equals_sign:
      text = "true"
    values[name] = _typed(name, text, type(defaults[name]))
  return ConfigDict(values)


def _typed(name: str, text: str, kind: type):
  booleans = {"true": True, "1": True, "false": False, "0": False}
  try:
    if kind is bool:
      return booleans[text.lower()]
    return kind(text)
  except (KeyError, ValueError):
    raise ValueError(f"The config argument {name}={text!r} is not a {kind.__name__}.") from None


def shrink(c: ConfigDict) -> ConfigDict:
  """The same config for a laptop: four steps with tiny models.

  `filax train` first creates a tiny corpus for it.
  """
  with c.unlocked():
    for role in ("encoder", "llm"):
      c.model[role].variant = "tiny"
      c.model[role].remat = "none"
    if "tokens" in c.model.merger:
      c.model.merger.tokens = 4
    if c.model.llm.get("dropout", "off") != "off":
      c.model.llm.dropout = "1:uniform:0.75,2:attention:0.25"
    c.model.dtype = "float32"
    groups = 2
    frames = groups * c.model.selector.size
    c.data.train = ((f"{DEBUG_CORPUS}/manifest.json", "all"),)
    c.data.root = ""
    c.data.tokenizer = f"{DEBUG_CORPUS}/tokenizer.model"
    c.data.sampling = dict(name="uniform", frames=frames, phase="ends")
    segments = 3 if c.data.packing else 1
    length = 128 if c.data.time_prompt == "none" else 256
    c.data.rows = (
      row_shape(frames=segments * frames, positions=segments * length, samples=segments),
    )
    c.infer.sampling = dict(name="uniform", frames=4 * frames, phase="ends")
    c.infer.max_new_tokens = 16
    if "scenes" in c.infer.selector:
      c.infer.selector.scenes = groups
    c.init_from = ""
    c.debug_corpus = DEBUG_CORPUS
    c.batch = 2
    c.steps = 4
    c.log_every = 1
    c.checkpoint_every = 2
    c.optim.accumulate = 1
    c.mesh = dict(data=1, fsdp=-1, seq=1, tensor=1)
  return c
