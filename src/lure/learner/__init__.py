"""A model that stays current: the learner, what it decides by, and the production cycle around it."""
