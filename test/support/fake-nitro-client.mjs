// Stands where nitro-cli stands: hands its arguments to the test and says what the test answers.
import { createConnection } from 'node:net';

const [socketPath, ...args] = process.argv.slice(2);
const socket = createConnection({ path: socketPath, allowHalfOpen: true });
socket.on('error', () => process.exit(1));
socket.end(JSON.stringify(args));
let answer = '';
for await (const chunk of socket) answer += chunk;
const { status, stdout, stderr } = JSON.parse(answer);
process.stderr.write(stderr);
process.stdout.write(stdout, () => process.exit(status));
