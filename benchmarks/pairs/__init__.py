"""Do two compositions crystallise alike? Judged on pairs."""
