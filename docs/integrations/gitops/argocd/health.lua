-- Health of a CreditModel for Argo CD. It reads the conditions and nothing else: phase is for people.
-- Healthy: the model that spec names is gated, rolled and serving, at this generation.
-- Degraded: nothing more will happen without a change, even while an earlier model goes on serving.
-- Suspended: a person's turn (spec.suspend, or an approval). Progressing: everything else.

local function health(status, message)
  return { status = status, message = message or "" }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "being deleted")
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local ready, stalled = conditions["Ready"], conditions["Stalled"]
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not looked at this generation yet")
end

if ready.status == "True" then
  return health("Healthy", ready.message)
end
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", stalled.message)
end
if ready.reason == "Suspended" or ready.reason == "AwaitingApproval" then
  return health("Suspended", ready.message)
end
if ready.reason == "Degraded" or ready.reason == "ApplyRefused" then
  return health("Degraded", ready.message)
end
return health("Progressing", ready.message)
