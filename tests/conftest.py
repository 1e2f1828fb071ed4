"""Settings of the whole test run."""

import os

from hypothesis import settings

# the same examples on every run, so that a red run is about the change at hand; HYPOTHESIS_EXAMPLES=5000 explores
examples = os.environ.get("HYPOTHESIS_EXAMPLES")
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=int(examples or 100), deadline=None)
settings.load_profile("explore" if examples else "steady")
