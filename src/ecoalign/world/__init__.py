"""The small synthetic world that the embedded model knows: scenes, questions, rules, truth.

Everything here is generated, so the truth of an answer is exact and no judge is needed.
"""
