// Calls the greeter at the address in the first argument, once unary and once as a stream.

const assert = require("node:assert");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const NAMES = ["Ryan", "Isaac", "Bert"];
const SECONDS = 10; // for a call; an unanswered one must not hang the script

const definition = protoLoader.loadSync(path.join(__dirname, "..", "hello.proto"));
const { Greeter } = grpc.loadPackageDefinition(definition).weir.hello.v1;

const deadline = () => ({ deadline: Date.now() + SECONDS * 1000 });

function greet(greeter, name) {
  return new Promise((resolve, reject) => {
    greeter.greet({ name }, deadline(), (error, greeting) => (error ? reject(error) : resolve(greeting.text)));
  });
}

async function greetEach(greeter, names) {
  const call = greeter.greetEach(deadline());
  for (const name of names) call.write({ name });
  call.end();
  const texts = [];
  for await (const greeting of call) texts.push(greeting.text);
  return texts;
}

async function main() {
  const greeter = new Greeter(process.argv[2], grpc.credentials.createInsecure());

  const text = await greet(greeter, "Node");
  console.log(`node: ${text}`);
  assert.strictEqual(text, "Hello, Node!");

  const texts = await greetEach(greeter, NAMES);
  console.log(`node: ${texts.join(" ")}`);
  assert.deepStrictEqual(texts, NAMES.map((name) => `Hello, ${name}!`));

  greeter.close();
}

main().catch((error) => {
  console.error(`node: ${error.message}`);
  process.exitCode = 1;
});
