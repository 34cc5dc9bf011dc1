# SPDX-License-Identifier: Apache-2.0
"""Counts of the server, as Prometheus text."""

from collections.abc import Mapping
import threading

HELP = {
  "filax_requests_total": "Requests by their HTTP status.",
  "filax_answers_total": "Answers that were completed.",
  "filax_cancelled_total": "Requests whose client left.",
  "filax_failed_total": "Requests that ended with an error of the engine.",
  "filax_prompt_tokens_total": "Tokens of prompts, visual tokens included.",
  "filax_visual_tokens_total": "Visual tokens of prompts.",
  "filax_answer_tokens_total": "Tokens of answers.",
  "filax_chunks_total": "Device calls that decoded a chunk of tokens.",
  "filax_encoded_total": "Videos and pictures that passed the encoder.",
  "filax_cache_hits_total": "Videos and pictures whose visual tokens were kept.",
  "filax_read_seconds_total": "Seconds of opening and decoding media.",
  "filax_encode_seconds_total": "Seconds of encoding.",
  "filax_prefill_seconds_total": "Seconds of reading prompts.",
  "filax_decode_seconds_total": "Seconds of decoding answers.",
  "filax_waiting": "Requests that wait.",
  "filax_running": "Requests that are answered.",
  "filax_cache_bytes": "Bytes of kept visual tokens.",
  "filax_upload_bytes": "Bytes of uploaded files.",
  "filax_first_token_seconds_total": "Seconds from a request to its first token, summed.",
}


class ServingCounters:
  """Named sums that threads add to."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._sums: dict[tuple[str, str], float] = {}

  def increase(self, name: str, value: float = 1.0, label: str = "") -> None:
    """Adds to the sum `name`; `label` is written between braces."""
    with self._lock:
      key = (name, label)
      self._sums[key] = self._sums.get(key, 0.0) + value

  def sum_of(self, name: str) -> float:
    """A sum over all labels."""
    with self._lock:
      return sum(value for (key, _), value in self._sums.items() if key == name)

  def prometheus_text(self, gauges: Mapping[str, float]) -> str:
    """All sums, and values of this moment."""
    with self._lock:
      sums = dict(self._sums)
    lines = []
    for name, text in HELP.items():
      kind = "counter" if name.endswith("_total") else "gauge"
      lines.append(f"# HELP {name} {text}")
      lines.append(f"# TYPE {name} {kind}")
      if kind == "gauge":
        lines.append(f"{name} {gauges.get(name, 0):g}")
        continue
      by_label = {label: value for (key, label), value in sums.items() if key == name}
      for label, value in sorted((by_label or {"": 0.0}).items()):
        lines.append(f"{name}{label} {value:.10g}")
    return "\n".join(lines) + "\n"
