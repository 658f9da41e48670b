"""Parents of a model among candidates: weights of merges by least squares in task-vector space.

`members` opens and lines up, `inner_products` reads everything once, `fits`, `explanations` and `sparse` fit,
`judgement` decides, `finding` joins them and `parentage` is the answer.
"""
