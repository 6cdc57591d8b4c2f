// The certified OpenID provider `oidc-provider`, with people and clients that the tests name.
// One argument: JSON with port, clients, people by the name they sign in with, seconds that an ID token lives, and
// is_thin: whether it leaves what is asked for out of the ID token and tells it only when asked (Core 1.0, 5.4).
import Provider from "oidc-provider";

const { port, clients, people, id_token_lives_s, is_thin } = JSON.parse(process.argv[2]);
const SCOPES = "openid email profile groups";

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients,
  claims: { openid: ["sub", "amr"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  scopes: SCOPES.split(" "),
  conformIdTokenClaims: is_thin,
  findAccount: (_, name) =>
    people[name] && { accountId: name, claims: () => ({ ...people[name], sub: people[name].sub ?? name }) },
  features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  // Whoever signs in has agreed.
  async loadExistingGrant(ctx) {
    const grant = new provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope(SCOPES);
    await grant.save();
    return grant;
  },
  pkce: { required: () => true },
  ttl: { IdToken: id_token_lives_s, AuthorizationCode: 60, AccessToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
  cookies: { keys: ["only for tests"] },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith("/interaction/")) return next();
  await provider.interactionDetails(ctx.req, ctx.res);
  if (ctx.method === "GET") {
    ctx.body = '<form method="post"><input name="person"><button>Sign in</button></form>';
    return undefined;
  }
  let body = "";
  for await (const part of ctx.req) body += part;
  const name = new URLSearchParams(body).get("person");
  const login = { accountId: name, amr: people[name]?.amr ?? ["pwd"] };
  const result = people[name] ? { login } : { error: "access_denied" };
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: false });
  ctx.respond = false;
  return undefined;
});
provider.listen(port, "127.0.0.1");
