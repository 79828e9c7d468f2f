"""What every test runs under."""

import os
import secrets

from hypothesis import settings

# Ray reads these when it is first imported: no test ever speaks to a cluster without a token.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# By default its workers are the least of all, and other tests would starve them.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it

# What is found must not depend on how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
