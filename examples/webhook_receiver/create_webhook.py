"""Create the webhook that calls the receiver: run once, by who may manage webhooks.

WEBHOOK_SECRET=… MLFLOW_TRACKING_URI=… python create_webhook.py https://ci.example.org/mlflow
"""

import os
import sys

from mlflow import MlflowClient

webhook = MlflowClient().create_webhook(
    name="mledit-gate",
    url=sys.argv[1],
    events=["model_version.created"],
    secret=os.environ["WEBHOOK_SECRET"],
)
print(webhook.webhook_id)
