// A @grpc/grpc-js client, under TLS or in plaintext: grpc_js_client.js ADDRESS [CA NAME [CERT KEY]]
// Prints `good` when a message was echoed, and `CODE: DETAILS` otherwise.
const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const [address, ca, name, cert, key] = process.argv.slice(2);
const read = (file) => (file ? fs.readFileSync(file) : null);
const { createSsl, createInsecure } = grpc.credentials;
const credentials = ca ? createSsl(read(ca), read(key), read(cert)) : createInsecure();
const options = ca ? { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name } : {};
const client = new grpc.Client(address, credentials, options);
const asIs = (bytes) => bytes;
const deadline = Date.now() + 50_000;
const message = Buffer.from('by way of node');
client.makeUnaryRequest('/weir.Load/Echo', asIs, asIs, message, new grpc.Metadata(), { deadline }, (error, reply) => {
  const good = reply && Buffer.compare(reply, message) === 0;
  console.log(error ? `${error.code}: ${error.details}` : good ? 'good' : 'another message');
  client.close();
});
