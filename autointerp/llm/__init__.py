"""Language models: requests, replies, and the layers that every request goes through.

What others use:
    ``client`` (requests, replies, who answers them), ``templates`` and ``parts`` (prompts and typed
    replies), ``at_once`` (several questions), ``anew`` (questions whose answers led to failures),
    ``echo`` (how likely texts are), ``opening`` (all clients of a run), ``reachable`` (whether
    servers are there).
Between a request and its server:
    ``layers`` (what each goes through) and ``asking`` (what the layers pass on), ``bodies`` (what
    is sent), ``structured`` and ``text`` (what a reply must be), ``limits`` (budgets, rates and
    slots), ``gate`` (what is under way), ``accounts`` and ``pricing`` (who spent what),
    ``transport`` (what comes of sending), ``openai_api`` and ``completions``, ``servers`` and
    ``keys``.
The journal of replies:
    ``journal``, ``journal_file`` (its tables), ``journal_batches`` (which batches are open).
Asking in waves:
    ``wave_client``, ``waves`` and ``wave_files``, ``queueing`` (what holds them back), ``depot``
    (what they are carried with); ``batches`` (batch files and who carries them): ``batch_api`` to
    a server, ``batch_program`` to a program on this machine.
vLLM servers of a run's own:
    ``vllm_server``, ``vllm_command``; ``guarded`` and ``watchdog`` stop programs with the run.
Estimates:
    ``rehearsal`` (asks nobody), ``pretending`` (made-up replies), ``token_counts``.
"""
