# %% [markdown]
# # own_loop
#
# words
# %%
print(1)
