"""How does the policy learn? Records, credit, losses and the learner.

Importing the package itself pulls in neither torch nor ray: `trainer.spec`,
`trainer.records`, `trainer.dataset` and `trainer.privileged` are plain Python,
so the API and the CLI can check a job without the weight of a trainer.
"""
