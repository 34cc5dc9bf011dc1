# SPDX-License-Identifier: Apache-2.0
"""Labels by a served model with OpenAI's interface (vLLM, SGLang, a hosted one).

Only annotation texts are sent, never pixels. The key is read from an environment variable and goes
into the request's header alone: it is in no file, log or message.
"""

from collections.abc import Iterator, Sequence
import dataclasses

from data_pipelines.synthesis.labels.cache import MOST_TOKENS, LabelError
from filax.chat_endpoint import IN_FLIGHT, ChatEndpoint, Knobs, TextRefused
from filax.concurrent_calls import concurrent_calls

TRIES = 6
MOST_REFUSED = 32  # If so many texts are refused before one is answered, the settings are wrong.
KNOBS = Knobs("label model", "--url", "--model", "the variable of --key-env")


@dataclasses.dataclass(frozen=True)
class LabelEndpoint:
  """A server of chat completions.

  Raises ValueError for an address or key that cannot be used.
  """

  url: str  # Up to /chat/completions, e.g. "http://localhost:8000/v1".
  model: str
  key: str = dataclasses.field(default="", repr=False)
  seed: int = 0
  timeout: float = 300.0
  first_wait: float = 1.0  # Seconds before the second try; doubles.

  def __post_init__(self):
    self._open()

  def ask_all(self, prompts: Sequence[str]) -> Iterator[tuple[int, str | None]]:
    """Yields (number of the prompt, answer) as they come.

    None for a refused text.

    Raises ValueError if the server cannot be used, as if it refuses every text; what it answered
    before was yielded.
    """
    chat = self._open()
    reasons: list[TextRefused] = []

    def answer(prompt: str) -> str | None:
      try:
        return self._answer(chat, prompt)
      except LabelError:
        return None
      except TextRefused as error:
        reasons.append(error)
        return None

    refused = []  # Before the first reply.
    for number, text in concurrent_calls(answer, prompts, IN_FLIGHT):
      if chat.replies:
        yield number, text
        continue
      refused.append(number)
      if len(refused) == MOST_REFUSED:
        raise ValueError(f"The label model refuses every text. {reasons[0]}")
    for number in refused:
      yield number, None

  def _open(self) -> ChatEndpoint:
    return ChatEndpoint(self.url, self.model, self.key, KNOBS, TRIES, self.first_wait, self.timeout)

  def _answer(self, chat: ChatEndpoint, prompt: str) -> str:
    """The answer to a prompt.

    Raises LabelError for one that was cut off, EndpointError without one.
    """
    completion = chat.complete(
      dict(
        messages=[dict(role="user", content=prompt)],
        temperature=0,
        max_tokens=MOST_TOKENS,
        seed=self.seed,
        response_format=dict(type="json_object"),
      )
    )
    if completion.is_cut or not completion.text:
      raise LabelError("the answer is cut off or empty")
    return completion.text
