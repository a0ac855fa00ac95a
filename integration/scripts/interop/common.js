'use strict';

// What the client and the server of the interop cases share: arguments, the published service definition, payloads.

const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const ECHO_INITIAL = 'x-grpc-test-echo-initial';
const ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin';

function parseArguments() {
  const parsed = {};
  for (const argument of process.argv.slice(2)) {
    const [, name, value] = /^--([a-z_]+)=(.*)$/.exec(argument) || [];
    if (!name) throw new Error(`not --name=value: ${argument}`);
    parsed[name] = value;
  }
  return parsed;
}

function loadTesting(protoRoot) {
  const definition = protoLoader.loadSync(path.join(protoRoot, 'src/proto/grpc/testing/test.proto'), {
    includeDirs: [protoRoot],
    keepCase: true,
    defaults: true,
  });
  return grpc.loadPackageDefinition(definition).grpc.testing;
}

const payload = (size) => ({ body: Buffer.alloc(size) });

module.exports = { grpc, parseArguments, loadTesting, payload, ECHO_INITIAL, ECHO_TRAILING };
