"""The benchmark of quickstudy against other meta-learning libraries (``make bench``).

    workload      what is computed: sizes, network, tasks (``workloads``, ``networks``, ``tasks``)
    contestant    one library's way to compute it (``ours``, ``gradients``, ``metric``, ``samplers``, ``reptile``)
    reference     the same in plain torch, which all others must equal in float64 (``reference``, ``checks``)
    worker        one process a contestant; it answers commands (``worker``, ``settings``)
    harness       checks, alternates between the workers round by round, gathers (``harness``, ``statistics``)
    report        JSON and Markdown (``report``), with the machine's peaks and each workload's floor (``floors``)

This process needs no torch: only the workers import it.
"""
