"""An OpenAI-compatible server on loopback that answers like a provider, and fails like one.

The demo, the tests and the proofs share it, so that all three speak one failure language. The theory:

- **A reply is a pure function of the request body's bytes.** The same body gets the same bytes from any process at
  any time, so a run that was killed and resumed can be compared with one that was not. A reply carries a digest of
  its own user message (`replies.digest`): a reply that landed on another row is seen. So do the strings of a reply in
  JSON, and each answer to a pack of prompts is the one that its prompt would have got alone.
- **A provider is a path prefix.** `/v1/...` is the provider "default", `/NAME/v1/...` the provider NAME. Each has its
  own limits, its own fault script, its own random numbers and its own statistics, and is made at its first request.
  `providers.NAME` of the settings gives it settings of its own; without, it has those of all.
- **A request goes through fixed stations**: the key, the body and the model (what is wrong there costs nothing), then
  the limits (which count what fails later, as real ones do), then the fault chosen for it, then the reply. So the
  script is used up by requests that passed the limits, one name each.
- **Load shows as real servers show it**, each as a setting: a limit a minute answers 429; `parallel` makes the rest
  wait in an endless line (vLLM, llama.cpp), or with `queue` in one that ends in a 429; `knee` makes every reply slower
  past it, by the square of the load, so that goodput falls. A request whose sender left gives its slot back.
- **A test decides when a provider is sick.** `POST /providers/NAME/fault` with `{"fault": "503", "seconds": 60}` lets
  every request that passes the limits fail so from then on; without `seconds` until `{"fault": null}` is sent. The
  script and the shares go on afterwards where they were.
- **Content can be wrong too.** A share of the replies in JSON (`content_faults`) is whole and billed, and does not hold
  what was asked for. It is drawn for each request sent: who asks again most likely gets a good one.
- **There is a Batch API too** (`batches`): files and batches lie on disk, batches end by the clock, and fail by scripts
  of their own. Limits and faults of live requests do not touch it.
- **Nothing here is told apart by chance alone.** Faults by rate and latencies come from generators seeded by the
  settings; only the order in which requests arrive is left to the network.
- **The server is the witness.** `/stats` says what arrived, how often, and what was answered: promises about
  requests ("no acknowledged row is asked for again") are checked here, not in the client that made them.

Known gaps: no tools, no lists of tokens in the place of texts, images count for nothing, tokens are counted as
characters / 4.

`settings`, `limits`, `faults`, `replies`, `routes` and `statistics` are plain computation without I/O; `provider` is
made of them; `batches` answers the Batch API; `app` is the handler, `server` listens, `process` runs a server in a
child process (and imports no server code into the parent).
"""
