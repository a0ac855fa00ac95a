'use strict';

// The client of the gRPC interop cases, on grpc-js: --test_case=NAME runs one of them; exit status 0 says it held.
// Each case follows grpc/doc/interop-test-descriptions.md.

const assert = require('assert');
const { grpc, parseArguments, loadTesting, payload, ECHO_INITIAL, ECHO_TRAILING } = require('./common.js');

const options = parseArguments();
const testing = loadTesting(options.proto_root);
const address = `${options.server_host}:${options.server_port}`;
const LARGE_REQUEST = 271828;
const LARGE_RESPONSE = 314159;
const REQUEST_SIZES = [27182, 8, 1828, 45904];
const RESPONSE_SIZES = [31415, 9, 2653, 58979];
// A channel that compresses; grpc-js cannot leave out one message of a stream.
const GZIP = { 'grpc.default_compression_algorithm': 2 };

const connect = (service = testing.TestService, channel = {}) =>
  new service(address, grpc.credentials.createInsecure(), channel);

// One unary or client-streaming call, whatever its outcome: {error, response, headers, status}.
function outcome(start) {
  return new Promise((resolve) => {
    const seen = {};
    const settle = () => {
      if (seen.status && seen.replied) resolve(seen);
    };
    const call = start((error, response) => {
      Object.assign(seen, { error, response, replied: true });
      settle();
    });
    call.on('metadata', (headers) => (seen.headers = headers));
    call.on('status', (status) => {
      seen.status = status;
      settle();
    });
  });
}

// The next event of a kind. (events.once would reject at a call's 'error', which comes with every status but OK.)
const once = (call, event) => new Promise((resolve) => call.once(event, resolve));

// A call of any streaming kind whose end is looked at by its status alone.
function watched(call) {
  call.on('error', () => {});
  return { call, status: once(call, 'status'), headers: once(call, 'metadata') };
}

function assertOk(status) {
  assert.strictEqual(status.code, grpc.status.OK, status.details);
}

// Receives all that is left of a stream: the sizes of the payloads.
async function sizesOf({ call, status }) {
  const sizes = [];
  call.on('data', (response) => sizes.push(response.payload.body.length));
  assertOk(await status);
  return sizes;
}

const unary = (client, request, metadata = new grpc.Metadata()) =>
  outcome((reply) => client.UnaryCall(request, metadata, reply));

const largeRequest = (more = {}) => ({ response_size: LARGE_RESPONSE, payload: payload(LARGE_REQUEST), ...more });

function assertLarge({ error, response }) {
  assert.ifError(error);
  assert.deepStrictEqual(response.payload.body, Buffer.alloc(LARGE_RESPONSE));
}

const download = (request) => sizesOf(watched(connect().StreamingOutputCall(request)));

const duplexRequest = (request, response) => ({
  response_parameters: [{ size: response }],
  payload: payload(request),
});

async function assertStatusEchoed(code, message) {
  const response_status = { code, message };
  const reply = await unary(connect(), { response_status });
  assert.strictEqual(reply.status.code, code);
  assert.strictEqual(reply.status.details, message);
  return response_status;
}

async function soak(client) {
  for (let i = 0; i < Number(options.soak_iterations); i++) assertLarge(await unary(client(), largeRequest()));
}

const CASES = {
  async empty_unary() {
    const { error, response } = await outcome((reply) => connect().EmptyCall({}, reply));
    assert.ifError(error);
    assert.deepStrictEqual(response, {});
  },

  async large_unary() {
    assertLarge(await unary(connect(), largeRequest()));
  },

  async client_compressed_unary() {
    const client = connect(testing.TestService, GZIP);
    const probe = await unary(connect(), largeRequest({ expect_compressed: { value: true } }));
    assert.strictEqual(probe.status.code, grpc.status.INVALID_ARGUMENT);
    assertLarge(await unary(client, largeRequest({ expect_compressed: { value: true } })));
    assertLarge(await unary(connect(), largeRequest({ expect_compressed: { value: false } })));
  },

  async server_compressed_unary() {
    for (const value of [true, false]) {
      assertLarge(await unary(connect(), largeRequest({ response_compressed: { value } })));
    }
  },

  async client_streaming() {
    const { error, response } = await outcome((reply) => {
      const call = connect().StreamingInputCall(reply);
      REQUEST_SIZES.forEach((size) => call.write({ payload: payload(size) }));
      call.end();
      return call;
    });
    assert.ifError(error);
    assert.strictEqual(response.aggregated_payload_size, 74922);
  },

  async server_streaming() {
    const response_parameters = RESPONSE_SIZES.map((size) => ({ size }));
    assert.deepStrictEqual(await download({ response_parameters }), RESPONSE_SIZES);
  },

  async server_compressed_streaming() {
    const response_parameters = [
      { compressed: { value: true }, size: 31415 },
      { compressed: { value: false }, size: 92653 },
    ];
    assert.deepStrictEqual(await download({ response_parameters }), [31415, 92653]);
  },

  async ping_pong() {
    const { call, status } = watched(connect().FullDuplexCall());
    const responses = call.iterator({ destroyOnReturn: false });
    for (const [i, size] of REQUEST_SIZES.entries()) {
      call.write(duplexRequest(size, RESPONSE_SIZES[i]));
      assert.strictEqual((await responses.next()).value.payload.body.length, RESPONSE_SIZES[i]);
    }
    call.end();
    assert.strictEqual((await responses.next()).done, true);
    assertOk(await status);
  },

  async empty_stream() {
    const stream = watched(connect().FullDuplexCall());
    stream.call.end();
    assert.deepStrictEqual(await sizesOf(stream), []);
  },

  async half_duplex() {
    const stream = watched(connect().HalfDuplexCall());
    REQUEST_SIZES.forEach((size, i) => stream.call.write(duplexRequest(size, RESPONSE_SIZES[i])));
    stream.call.end();
    assert.deepStrictEqual(await sizesOf(stream), RESPONSE_SIZES);
  },

  async cancel_after_begin() {
    let call;
    const cancelled = outcome((reply) => (call = connect().StreamingInputCall(reply)));
    call.cancel();
    assert.strictEqual((await cancelled).status.code, grpc.status.CANCELLED);
  },

  async cancel_after_first_response() {
    const { call, status } = watched(connect().FullDuplexCall());
    call.write(duplexRequest(27182, 31415));
    await once(call, 'data');
    call.cancel();
    assert.strictEqual((await status).code, grpc.status.CANCELLED);
  },

  async timeout_on_sleeping_server() {
    const client = connect();
    // The connection first: else the millisecond is over before the call reaches anyone.
    await outcome((reply) => client.EmptyCall({}, reply));
    const { call, status } = watched(client.FullDuplexCall({ deadline: Date.now() + 1 }));
    call.write({ payload: payload(27182), response_parameters: [{ size: 1, interval_us: 1000000 }] });
    call.resume();
    assert.strictEqual((await status).code, grpc.status.DEADLINE_EXCEEDED);
  },

  async status_code_and_message() {
    const response_status = await assertStatusEchoed(2, 'test status message');
    const stream = watched(connect().FullDuplexCall());
    stream.call.write({ response_status });
    stream.call.end();
    stream.call.resume();
    const status = await stream.status;
    assert.strictEqual(status.code, 2);
    assert.strictEqual(status.details, 'test status message');
  },

  async special_status_message() {
    await assertStatusEchoed(2, '\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \u{1f608}\t\n');
  },

  async custom_metadata() {
    const trailing = Buffer.from('0a0b0a0b0a0b', 'hex');
    const metadata = new grpc.Metadata();
    metadata.set(ECHO_INITIAL, 'test_initial_metadata_value');
    metadata.set(ECHO_TRAILING, trailing);
    const assertEchoed = (headers, status) => {
      assert.deepStrictEqual(headers.get(ECHO_INITIAL), ['test_initial_metadata_value']);
      assert.deepStrictEqual(status.metadata.get(ECHO_TRAILING), [trailing]);
    };

    const reply = await unary(connect(), { response_size: 1, payload: payload(1) }, metadata);
    assert.ifError(reply.error);
    assertEchoed(reply.headers, reply.status);

    const stream = watched(connect().FullDuplexCall(metadata));
    stream.call.write(duplexRequest(1, 1));
    stream.call.end();
    assert.deepStrictEqual(await sizesOf(stream), [1]);
    assertEchoed(await stream.headers, await stream.status);
  },

  async unimplemented_method() {
    const { status } = await outcome((reply) => connect().UnimplementedCall({}, reply));
    assert.strictEqual(status.code, grpc.status.UNIMPLEMENTED);
  },

  async unimplemented_service() {
    const client = connect(testing.UnimplementedService);
    const { status } = await outcome((reply) => client.UnimplementedCall({}, reply));
    assert.strictEqual(status.code, grpc.status.UNIMPLEMENTED);
  },

  async rpc_soak() {
    const client = connect();
    await soak(() => client);
  },

  async channel_soak() {
    let client;
    await soak(() => {
      if (client) client.close();
      // Without it, grpc-js would give the new channel the connection of the old one.
      client = connect(testing.TestService, { 'grpc.use_local_subchannel_pool': 1 });
      return client;
    });
  },
};

const run = CASES[options.test_case];
if (!run) throw new Error(`no case ${options.test_case}`);
run().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
