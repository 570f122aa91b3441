# frozen_string_literal: true

# Calls ruby-gitlab as the lines of standard input say, and answers each with one line.
# Arguments: the API's URL, a token.
# A line in: [METHOD, ARGUMENT...]. Out: {"base64"} of a file, {"json"} of JSON, {"status"} of an error.

require 'gitlab'
require 'json'

endpoint, private_token = ARGV
CLIENT = Gitlab.client(endpoint: endpoint, private_token: private_token)

def answer(method, *arguments)
  got = CLIENT.public_send(method, *arguments)
  case got
  when String then { base64: [got].pack('m0') }
  when Gitlab::FileResponse then { base64: [got.read].pack('m0'), filename: got.filename }
  else { json: got.respond_to?(:to_hash) ? got.to_hash : got }
  end
rescue Gitlab::Error::ResponseError => e
  { status: e.response_status }
end

$stdout.sync = true
$stdin.each_line { |line| puts JSON.generate(answer(*JSON.parse(line))) }
