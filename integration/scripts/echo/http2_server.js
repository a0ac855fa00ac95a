// A web server under TLS that speaks HTTP/2 alone and answers 200, on a port of its own: http2_server.js CERT KEY
const fs = require('fs');
const http2 = require('http2');

const [cert, key] = process.argv.slice(2).map((file) => fs.readFileSync(file));
const server = http2.createSecureServer({ cert, key }, (request, response) => response.end());
server.listen(0, '127.0.0.1', () => console.log('listening', server.address().port));
