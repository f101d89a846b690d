-- What the transcoder cannot say about an answer. Answers in gRPC pass untouched.

-- gRPC has no 206, 304, 411, 413 or 416. A service that means one says so in `x-http-code`: in its initial metadata
-- for an answer, in its trailing metadata for an error.
local REFINES = {["206"] = "200", ["304"] = "200", ["411"] = "400", ["413"] = "400", ["416"] = "400"}

local NAMED = '{"code":3,"message":"%s: %s","details":[' ..
  '{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INVALID_FIELD","domain":"contentlab",' ..
  '"metadata":{"field":"%s","billed":"no","retrySafe":"false","requestId":"%s"}},' ..
  '{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"%s","description":"%s"}]}]}'
local UNNAMED = '{"code":3,"message":"The request cannot be read: %s","details":[' ..
  '{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"MALFORMED_REQUEST","domain":"contentlab",' ..
  '"metadata":{"billed":"no","retrySafe":"false","requestId":"%s"}}]}'

local function refine_status(headers)
  local code = headers:get("x-http-code")
  if code ~= nil then
    headers:remove("x-http-code")
    if REFINES[code] == headers:get(":status") then
      headers:replace(":status", code)
    end
  end
end

-- On HTTP/1.1 a client that was promised a length waits for it even when the stream has failed.
local function promise_length(headers, protocol)
  local length = headers:get("x-http-content-length")
  if length ~= nil then
    headers:remove("x-http-content-length")
    if protocol == "HTTP/2" then
      headers:replace("content-length", length)
    end
  end
end

-- The transcoder's own text, still escaped as JSON: what it says of the request, without its echo of the request's
-- text, and the field it names if it names one.
local function explain(json)
  local text = json:match('"message":"The request cannot be read: (.*)"}%s*$') or ""
  text = text:gsub("\\n.*$", ""):gsub("\\u000[aA].*$", ""):gsub("^[:%s]+", "")
  local field = text:match('^Could not find field \\"([%w_.]+)\\"')
  if field ~= nil then
    return "there is no such field", field
  end
  field = text:match("^([%w_.%[%]]+): ")
  if field ~= nil then
    return text:sub(#field + 3), field
  end
  return text, nil
end

local function name_field(handle)
  local body = handle:body()
  local json = body:getBytes(0, body:length())
  local id = json:match('"requestId":"([^"]*)"') or ""
  local text, field = explain(json)
  if field ~= nil then
    body:setBytes(NAMED:format(field, text, field, id, field, text))
  else
    body:setBytes(UNNAMED:format(text, id))
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type") or ""
  if content_type:sub(1, 16) == "application/grpc" then
    return
  end
  refine_status(headers)
  promise_length(headers, handle:streamInfo():protocol())
  if headers:get("x-contentlab-malformed") ~= nil then
    headers:remove("x-contentlab-malformed")
    name_field(handle)
  end
end
