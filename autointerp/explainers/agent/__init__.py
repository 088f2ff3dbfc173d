"""The explainer agent: hypotheses, probes with stated predictions, verdicts in code.

``roles`` holds what the loop and its four roles pass to each other, ``belief`` the verdicts,
``loop`` the cycle, ``pattern_roles`` the roles without an LLM.
"""

from autointerp.explainers.agent.explainer import AgentExplainer, AgentOptions

__all__ = ["AgentExplainer", "AgentOptions"]
