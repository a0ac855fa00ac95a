'use strict';

// The server of the gRPC interop cases, on grpc-js.

const { grpc, parseArguments, loadTesting, payload, ECHO_INITIAL, ECHO_TRAILING } = require('./common.js');

function echoMetadata(call) {
  const trailers = new grpc.Metadata();
  const initial = call.metadata.get(ECHO_INITIAL);
  if (initial.length > 0) {
    const headers = new grpc.Metadata();
    initial.forEach((value) => headers.add(ECHO_INITIAL, value));
    call.sendMetadata(headers);
  }
  call.metadata.get(ECHO_TRAILING).forEach((value) => trailers.add(ECHO_TRAILING, value));
  return trailers;
}

const wantsFailure = (request) => request.response_status && request.response_status.code !== 0;

const failure = (request, trailers) => ({
  code: request.response_status.code,
  details: request.response_status.message,
  metadata: trailers,
});

const sleep = (microseconds) => new Promise((done) => setTimeout(done, microseconds / 1000));

async function writeResponses(call, request) {
  for (const { size, interval_us: interval } of request.response_parameters) {
    if (interval > 0) await sleep(interval);
    if (call.cancelled) return;
    call.write({ payload: payload(size) });
  }
}

function emptyCall(call, reply) {
  reply(null, {}, echoMetadata(call));
}

function unaryCall(call, reply) {
  const trailers = echoMetadata(call);
  if (wantsFailure(call.request)) reply(failure(call.request, trailers));
  else reply(null, { payload: payload(call.request.response_size) }, trailers);
}

function streamingInputCall(call, reply) {
  const trailers = echoMetadata(call);
  let total = 0;
  call.on('data', (request) => (total += request.payload ? request.payload.body.length : 0));
  call.on('end', () => reply(null, { aggregated_payload_size: total }, trailers));
}

async function streamingOutputCall(call) {
  const trailers = echoMetadata(call);
  await writeResponses(call, call.request);
  if (wantsFailure(call.request)) call.emit('error', failure(call.request, trailers));
  else call.end(trailers);
}

// Requests one by one. (A plain for-await would destroy the stream after the last, before it is answered.)
const requestsOf = (call) => call.iterator({ destroyOnReturn: false });

async function fullDuplexCall(call) {
  const trailers = echoMetadata(call);
  for await (const request of requestsOf(call)) {
    if (wantsFailure(request)) {
      call.emit('error', failure(request, trailers));
      return;
    }
    await writeResponses(call, request);
  }
  call.end(trailers);
}

async function halfDuplexCall(call) {
  const trailers = echoMetadata(call);
  const requests = [];
  for await (const request of requestsOf(call)) requests.push(request);
  for (const request of requests) await writeResponses(call, request);
  call.end(trailers);
}

// A stream's handler; a client that goes away ends it with an error that is nobody's fault.
const streaming = (handler) => (call) => {
  call.on('error', () => {});
  handler(call).catch((error) => {
    if (!call.cancelled) throw error;
  });
};

const options = parseArguments();
const testing = loadTesting(options.proto_root);
const server = new grpc.Server();
server.addService(testing.TestService.service, {
  EmptyCall: emptyCall,
  UnaryCall: unaryCall,
  StreamingInputCall: streamingInputCall,
  StreamingOutputCall: streaming(streamingOutputCall),
  FullDuplexCall: streaming(fullDuplexCall),
  HalfDuplexCall: streaming(halfDuplexCall),
});
server.bindAsync(`127.0.0.1:${options.port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
