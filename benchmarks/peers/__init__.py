"""The project beside what its users would otherwise take, in one run.

``python -m benchmarks.peers`` (extra ``peers``) measures, by turns (`benchmarks.timing`),

- searches for an edit that forgets a class: PPO of this project; Stable-Baselines3's PPO, with a
  full forward pass per candidate and with features cached by hand; a bare PyTorch loop that learns
  nothing; this project's OpenES and evosax's;
- PPO on CartPole beside rejax's, with few and with many environments;

and writes ``peers-<device>.json`` and ``.png``.
"""
