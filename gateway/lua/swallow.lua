-- Drops a request's body as it comes.
function envoy_on_request(handle)
  for chunk in handle:bodyChunks() do
    chunk:setBytes("")
  end
end
