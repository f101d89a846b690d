-- What the transcoder cannot say about an answer.

local NAMESPACE = "contentlab.responses"
local ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
local BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

-- gRPC has no 206, 304, 411, 413 or 416. A service that means one says so in `x-http-code`: in its initial metadata
-- for an answer, in its trailing metadata for an error.
local REFINES = {["206"] = "200", ["304"] = "200", ["411"] = "400", ["413"] = "400", ["416"] = "400"}

-- Statuses without details come from a service's transport, as when its process stops or its deadline passes: the
-- call may have done its work.
local TRANSPORT_ERRORS = {
  ["1"] = {"CANCELLED", "The service stopped before the call was done."},
  ["4"] = {"DEADLINE_EXCEEDED", "The call did not finish in time."},
  ["8"] = {"RESOURCE_EXHAUSTED", "The request or its answer is larger than the service takes."},
  ["12"] = {"NOT_IMPLEMENTED", "This method is not implemented by this server."},
  ["14"] = {"UNAVAILABLE", "The service is not reachable for the moment."},
}
local INTERNAL = {"INTERNAL_ERROR", "Internal error; quote the request id."}
local LEAVES_OUTCOME_OPEN = {["1"] = true, ["2"] = true, ["4"] = true, ["13"] = true, ["14"] = true}

local function info(reason, billed, retry_safe, id, field)
  local more = field and string.format('"field":"%s",', field) or ""
  return string.format(
    '{"@type":"%s","reason":"%s","domain":"contentlab","metadata":{%s"billed":"%s","retrySafe":"%s","requestId":"%s"}}',
    ERROR_INFO, reason, more, billed, tostring(retry_safe), id
  )
end

local function status(code, message, details)
  return string.format('{"code":%s,"message":"%s","details":[%s]}', code, message, details)
end

local function kind_of(handle)
  return handle:metadata():get("kind") or ""
end

local PAID = {paid = true, paid_stream = true}
local READS = {read = true, watch = true, download = true}

local function refine_status(headers)
  local code = headers:get("x-http-code")
  if code ~= nil then
    headers:remove("x-http-code")
    if REFINES[code] == headers:get(":status") then
      headers:replace(":status", code)
      if code == "304" then
        headers:remove("content-type") -- the transcoder's, of an answer without a message
      end
    end
  end
end

-- A stream that fails half way must not look whole. Over HTTP/1.1 Envoy ends it like any other, so the promised length
-- tells, but only once the connection is closed: a client waits for the rest. It is closed after every answer that may
-- fail after its headers have left; a service has up to 256 KiB in hand by then, and small pictures share a connection.
local IN_HAND = 256 * 1024

local function promise_length(headers, info)
  local length = headers:get("x-http-content-length")
  if length ~= nil then
    headers:remove("x-http-content-length")
    headers:replace("content-length", length)
    if (tonumber(length) or math.huge) > IN_HAND and info:protocol() ~= "HTTP/2" then
      info:drainConnectionUponCompletion()
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

local function malformed(json)
  local id = json:match('"requestId":"([^"]*)"') or ""
  local text, field = explain(json)
  if field == nil then
    return status(3, "The request cannot be read: " .. text, info("MALFORMED_REQUEST", "no", false, id))
  end
  local violation = string.format(
    '{"@type":"%s","fieldViolations":[{"field":"%s","description":"%s"}]}', BAD_REQUEST, field, text
  )
  return status(3, field .. ": " .. text, info("INVALID_FIELD", "no", false, id, field) .. "," .. violation)
end

-- An error of a service's transport in JSON, completed to the shape of all errors; nil if it has that already.
local function completed(handle, json)
  local code = json:match('^{"code":(%d+),"message":".*","details":%[%]}%s*$')
  if code == nil then
    return nil
  end
  local id = handle:streamInfo():dynamicMetadata():get(NAMESPACE)["request_id"]
  local kind = kind_of(handle)
  if PAID[kind] and LEAVES_OUTCOME_OPEN[code] then
    handle:headers():replace(":status", "504")
    return status(4, handle:filterContext():get("cut"), info("OUTCOME_UNKNOWN", "unknown", false, id))
  end
  local reason, message = unpack(TRANSPORT_ERRORS[code] or INTERNAL)
  return status(code, message, info(reason, PAID[kind] and "unknown" or "no", READS[kind] or false, id))
end

local function complete_json(handle, headers)
  local is_malformed = headers:get("x-contentlab-malformed") ~= nil
  headers:remove("x-contentlab-malformed")
  local body = handle:body() -- from here on `headers` is stale
  if body ~= nil then
    local json = body:getBytes(0, body:length())
    local better = is_malformed and malformed(json) or completed(handle, json)
    if better ~= nil then
      body:setBytes(better)
    end
  end
end

local function complete_grpc(handle, headers)
  local code = headers:get("grpc-status")
  if LEAVES_OUTCOME_OPEN[code] and headers:get("grpc-status-details-bin") == nil and PAID[kind_of(handle)] then
    headers:replace("grpc-status", "4")
    headers:replace("grpc-message", handle:filterContext():get("cut"))
    headers:replace("grpc-status-details-bin", handle:filterContext():get("cut_details"))
  end
end

-- Envoy's own error for gRPC-Web comes as text, and the gRPC-Web filter would guess its status from the HTTP status.
local function as_grpc(handle, headers)
  headers:replace(":status", "200")
  headers:replace("content-type", "application/grpc")
  local body = handle:body()
  if body ~= nil then
    body:setBytes("")
  end
end

function envoy_on_request(handle)
  handle:streamInfo():dynamicMetadata():set(NAMESPACE, "request_id", handle:headers():get("x-request-id") or "")
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type") or ""
  if content_type:sub(1, 16) == "application/grpc" then
    complete_grpc(handle, headers)
  elseif headers:get("grpc-status-details-bin") ~= nil then
    as_grpc(handle, headers)
  else
    refine_status(headers)
    promise_length(headers, handle:streamInfo())
    if tonumber(headers:get(":status")) >= 400 and content_type:sub(1, 16) == "application/json" then
      complete_json(handle, headers)
    end
  end
end
