// Once, on one member, as its first user: mongosh --port 27017 --tls --tlsCAFile … init.js
rs.initiate({
  _id: "rs0",
  // Majority writes are what an acknowledgement rests on: three members keep them through the loss
  // of one. An arbiter would not.
  members: [
    { _id: 0, host: "mongo1.internal:27017" },
    { _id: 1, host: "mongo2.internal:27017" },
    { _id: 2, host: "mongo3.internal:27017" },
  ],
  settings: { electionTimeoutMillis: 5000 },
});
while (!db.hello().isWritablePrimary) sleep(500);

const admin = db.getSiblingDB("admin");
admin.createUser({ user: "root", pwd: passwordPrompt(), roles: ["root"] });
admin.auth("root", passwordPrompt());

const automations = db.getSiblingDB("instagram_automations");
automations.createRole({
  role: "automationsService",
  // add_run_indexes changes a TTL in place; readWrite alone may not.
  privileges: [
    { resource: { db: "instagram_automations", collection: "" }, actions: ["collMod"] },
  ],
  roles: [{ role: "readWrite", db: "instagram_automations" }],
});
// Nothing on other databases. It may end its own sessions, which is how the keys of a process that
// was killed are freed: all processes use this one user.
automations.createUser({
  user: "automations",
  pwd: passwordPrompt(),
  roles: ["automationsService"],
});
