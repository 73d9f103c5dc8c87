# %% [markdown]
# # keep_current
#
# words
# %%
print(1)
