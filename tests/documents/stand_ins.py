# SPDX-License-Identifier: Apache-2.0
"""What tests make smaller in documents before they run them: sizes, places and hosts.

Rows are (regex, replacement). Each keeps the verb and the options of the command. Every row must
match somewhere.
"""

EVERYWHERE = (
  # `:debug` is the same config with tiny models and four steps.
  (r"(filax (?:train|plan|convert from)\b.* configs/(?!vcf_needles)\w+\.py)(?= )", r"\1:debug"),
  (r"(filax (?:train|plan)\b.* configs/\w+\.py:)(?=(?:packed|dropout)\b)", r"\1debug,"),
  (r"--topology v\S+", "--topology v5e:2x2 --config.batch=4"),  # The smallest slice, a row a chip.
  (r"(?<!\w)/data/", "data/"),
  (r"--lengths 1000\S*", "--lengths 8 --limit 2"),
  (r"(--depths 0),0.112\S*", r"\1,1"),
  (r"--frames 2048", "--frames 32"),
)

# Four steps of the whole config on what is there: `:debug` would replace the mixture.
SMALL_MIXTURE = (
  "--config.model.encoder.variant=tiny --config.model.llm.variant=tiny --config.batch=2 "
  "--config.data.tokenizer=tokenizer.json --config.data.rows='((4,0,128,1),)' --config.steps=2 "
  "--config.optim.accumulate=1 --config.mesh.seq=1"
)
MIXTURE = (
  r"(?<=filax train --config )(\S+:mixture=present,root=)/data/vcf",
  rf"\1data/vcf {SMALL_MIXTURE}",
)
NEEDLES = (r"--count 20000 --minutes 5", "--count 4 --held-out 2 --minutes 0.2")
CAPTIONS = (  # Videos of seconds, put together from six clips.
  r"(--durations probe)",
  r"\1 --minutes 0.1:0.5 --mean 15 --min-scenes 2 --held-out 0",
)
STUDY = (  # The same study of four short videos, with models that learn for two steps.
  r"filax study fila_table2( --workdir runs/studies)(?! --dry-run)",
  r"filax study tiny_study.py\1 --seeds 1",
)

LIVE_ID = """python -c 'import json; print(json.load(open("live.json"))["id"])'"""

IN_DOCUMENTS = {
  "configs/README.md": (MIXTURE, (r"--config.steps=100", "--config.steps=3")),
  "data_pipelines/synthesis/README.md": (
    NEEDLES,
    (r"--count 40000", "--count 4"),
    CAPTIONS,
  ),
  "docs/evidence.md": (STUDY, (r"(fila_table2:7b.*)", r"\1 --dry-run")),
  "docs/evidence_learning.md": (
    (r"(benchmarks.learning --rows) 2", r"\1 1 --steps 3 --videos 4"),
    (r"(filax demo .*--seed 1)", r"\1 --videos 4 --held 2 --stage1-steps 2 --stage2-steps 2"),
  ),
  "docs/evidence_needles.md": (
    (r"(needle_lessons --out \S+)", r"\1 --small"),
    (r"--multi-hop", "--multi-hop --lengths 8 --limit 1"),
    (r"(vcf_needles.py:stage=\d)", r"\1 --config.steps=2 --config.batch=1"),
  ),
  "docs/evidence_results.md": (STUDY,),
  "docs/faq.md": (MIXTURE,),
  "docs/live.md": (
    (r"rtsp://camera/stream", "http://{files}/talk.mp4"),
    (r"(curl -X POST \S+/v1/live)$", r"\1 | tee live.json"),
    (r"/v1/live/ID", f"/v1/live/$({LIVE_ID})"),
    (r"data:image/jpeg;base64,\.\.\.", r"data:image/jpeg;base64,'$(base64 -w0 frame.jpg)'"),
  ),
  "docs/long_video.md": (
    NEEDLES,
    CAPTIONS,
    (r"18:attention", "2:attention"),  # The tiny model has three layers.
    (r"4:uniform", "1:uniform"),
  ),
  "docs/serving.md": (
    (r"--media-folder /videos", "--media-folder {here}/videos"),
    (r"file:///videos", "file://{here}/videos"),
  ),
  "launch/README.md": ((r"launch/tpu_vm.sh (\w+)", r"launch/tpu_vm.sh \1 --dry-run"),),
  "filax/evals/README.md": ((r"(niah --checkpoint C)", r"\1 --lengths 8 --limit 2"),),
  "filax/train/README.md": ((r"number % 100", "number % 2"),),
}

# Commands whose exit code is a result: parts are missing, and two steps teach nothing.
ENDS_WITH = {"filax data status": 1, "filax demo --workdir runs/demo-1 --check": 2}

# Names that a block of Python uses and its page describes in words.
GIVEN = {
  "data_pipelines/README.md": (
    "from filax.configs import fila_stage4\nc = fila_stage4.get_config('debug')"
  ),
  "data_pipelines/manifest/README.md": (
    "from filax.configs import fila_stage4\nc = fila_stage4.get_config('debug')"
  ),
  "docs/live.md": (
    "import numpy as np\n"
    "frames = more_frames = np.zeros((12, 48, 64, 3), np.uint8)\n"
    "times = np.arange(12.0)\n"
    "more_times = times + 12"
  ),
  "filax/train/README.md": (
    "from filax.configs import fila_stage4\n"
    "from filax.testing import row_source\n"
    "config, workdir = fila_stage4.get_config('debug'), 'runs/held_out_loss'\n"
    "rows = row_source.random_batch(2)"
  ),
}

# Python that reads what the blocks of a page have set.
CHECKED = """\
from filax import settings
from data_pipelines.manifest.patterns import listed_mixture
from data_pipelines.packing.corpus import read_corpus
settings.check_settings(c.to_dict())
c.data.train = listed_mixture(c.data.train)
corpus = read_corpus(c.data.to_dict(), 0, "")
assert not corpus.report.bad, corpus.report.bad
"""
AFTER = {
  "data_pipelines/README.md": CHECKED,
  "data_pipelines/manifest/README.md": CHECKED,
  "filax/train/README.md": (
    "config.trackers = ('printed',)\nfilax.run_training(config, 'runs/printed')"
  ),
}
# Blocks of Python that are files, under the names that their pages give them, and their commands.
WRITTEN = {
  "docs/evidence.md": ("mine.py", "filax study mine.py --workdir runs/mine --dry-run"),
  "filax/evals/README.md": (
    "mine.py",
    "filax evals --checkpoint C --benchmark mine.py:suite --data DIR --root videos --out suite",
  ),
}
