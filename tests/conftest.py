"""What every test runs under."""

import os
import secrets

# Ray reads these when it is first imported: no test ever speaks to a cluster without a token.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
