// Calls one operation with fhir-kit-client and prints the answer.
//
// node assess.js BASE OPERATION < bundle.json          the data in the body
// node assess.js BASE OPERATION Patient/ID             the data on the FHIR server
import { text } from 'node:stream/consumers';
import { Client } from 'fhir-kit-client';

const [baseUrl, name, patient] = process.argv.slice(2);
const client = new Client({ baseUrl });
const answer = patient
  ? await client.operation({ name, method: 'GET', resourceType: 'Patient', id: patient.split('/')[1] })
  : await client.operation({ name, input: JSON.parse(await text(process.stdin)) });
console.log(JSON.stringify(answer));
