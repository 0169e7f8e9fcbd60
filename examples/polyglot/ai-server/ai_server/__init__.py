"""`ai.AiService` in Python: grpcio and scikit-learn, with models that the database service keeps.

Start reading in `service`, which answers the calls. `registry` holds the models in use; `learning` fits a `model` to a
`sample` of examples; `model_store` keeps samples as `documents` of the database service. `calls` surrounds every call
with what all have in common; `serving` runs the server.
"""
