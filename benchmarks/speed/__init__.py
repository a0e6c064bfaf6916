"""The benchmark of quickstudy against other meta-learning libraries (``make bench``).

    workload      what is computed: sizes, network, tasks (``workloads``, ``networks``, ``tasks``)
    contestant    one library's way to compute it (``ours``, ``gradients``, ``metric``, ``samplers``, ``reptile``)
    reference     the same in plain torch, which all others must equal (``reference``, ``checks``)
    worker        one process a contestant; it answers commands (``worker``, ``settings``)
    harness       checks, alternates between the workers round by round, gathers (``harness``, ``statistics``)
    report        JSON and Markdown (``report``, ``markdown``), with each workload's floors (``floors``) and what was
                  promised (``promises``), and where figures come from (``machine``, ``origins``)

This process needs no torch: only the workers import it.
"""
