# SPDX-License-Identifier: Apache-2.0
"""filax serve --checkpoint DIR: answers requests over HTTP, in OpenAI's form.

  filax serve --checkpoint runs/demo/stage2
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{
    "messages": [{"role": "user", "content": [
      {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,..."}},
      {"type": "text", "text": "What happens?"}]}]}'

With the environment variable FILAX_API_KEY, every route needs that key; without it, only addresses
of this machine can be bound. docs/serving.md has the requests, the limits and their errors.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import os

from filax.cli import checkpoint_options, options

_REPEATED = (  # Flags that may be given several times: (flag, its value, help).
  ("--allow-domain", "HOST", "fetch URLs of HOST, of .DOMAIN, or of * (all public hosts)"),
  ("--allow-host", "NAME", "a name under which clients reach the server"),
  ("--allow-origin", "URL", "a web page elsewhere that may call the server"),
)


def main(argv: Sequence[str]) -> None:
  """Serves until SIGTERM or SIGINT, and then finishes what runs."""
  args = serve_parser().parse_args(argv)
  try:
    from filax.serve import server
  except ModuleNotFoundError as error:
    raise ValueError(
      f"filax serve needs {error.name}, which comes with: pip install 'filax[serve]'."
    ) from None
  from filax.infer.device_mesh import PARAMETERS
  from filax.serve import limits

  bounds = limits.with_changes(limits.ServingLimits(), args.limit)
  serving = server.ServerOptions(
    host=args.host,
    port=args.port,
    name=args.name,
    key=os.environ.get(server.KEY_VARIABLE, "").strip(),  # Files of secrets end in a newline.
    hosts=tuple(args.allow_host),
    origins=tuple(args.allow_origin),
    domains=tuple(args.allow_domain),
    media_folder=args.media_folder,
    upload_folder=args.uploads,
    encode_cache=args.encode_cache,
    fixed_batch=args.fixed_batch,
    page=not args.no_page,
    stop_seconds=args.stop_seconds,
  )
  server.check_media_folder(serving.media_folder)
  server.check_address(serving)
  session = checkpoint_options.load_on_devices(args, PARAMETERS)
  session = session.adjusted(frames=args.frames, yarn=args.yarn, dropout=args.dropout)
  if args.selector:
    session = session.with_selector(args.selector)
  checkpoint_options.note_unused_cache("serve", session, args.encode_cache)
  server.run_server(session, serving, bounds)


def serve_parser() -> argparse.ArgumentParser:
  """The options of `filax serve`."""
  parser = options.Parser(
    prog="filax serve",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  checkpoint_options.add_checkpoint(parser)
  checkpoint_options.add_devices(parser)
  add = parser.add_argument
  add("--host", default="127.0.0.1", help="address to bind; default: 127.0.0.1")
  add(
    "--port", type=options.whole_number(0, 65_535), default=8000, help="port [8000]; 0: a free one"
  )
  add("--name", default="", help="name of the model in the API; default: the folder's")
  add(
    "--selector", help="how frames are chosen: kmeans, uniform, ...; default: config.infer.selector"
  )
  add(
    "--frames",
    type=options.whole_number(1),
    help="the most frames that the model's own sampling reads",
  )
  add("--yarn", type=options.number(1), help="stretch the context by this factor")
  add("--dropout", default="", help="visual dropout: off, a preset, or layer:kind:ratio,...")
  add("--encode-cache", default="", help="folder that keeps the visual tokens of videos")
  add("--media-folder", default="", help="local files below it may be named by file:// URLs")
  add("--uploads", default="", help="where uploaded files are kept; default: the temporary folder")
  for flag, metavar, text in _REPEATED:
    add(flag, action="append", default=[], metavar=metavar, help=text)
  add(
    "--limit",
    action="append",
    default=[],
    metavar="NAME=VALUE",
    help=f"change a limit; {_limit_names()}",
  )
  add(
    "--fixed-batch",
    action="store_true",
    help="always decode a full batch, so that answers never depend on other requests",
  )
  add("--no-page", action="store_true", help="do not serve the web page at /")
  add("--stop-seconds", type=options.number(), default=30.0, help="time to finish answers [30]")
  return parser


def _limit_names() -> str:
  """The names of the limits with their defaults."""
  from filax.serve.limits import ServingLimits

  names = []
  for name, value in dataclasses.asdict(ServingLimits()).items():
    names.append(f"{name}={value:.0f}")
  return "defaults: " + ", ".join(names)
