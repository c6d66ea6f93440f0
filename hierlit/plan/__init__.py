"""What a run would cost, from its configuration alone: operations, memory, messages and the paper's depth bound."""
