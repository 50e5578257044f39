"""Django's settings, all from `config.env`. Only what differs from Django's default, with the reason where it is not plain."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs, unquote, urlsplit

from config.env import ROOT, Mode, env
from config.mail_url import mail_settings

MODE = env.mode
PRODUCTION = MODE is Mode.PRODUCTION

# --- Secrets: a production that serves refuses to start without good ones (SECURITY.md S7) ------------------------------------------
SECRET_KEY = env.text("SLUICE_SECRET_KEY")
MASTER_KEY = env.text("SLUICE_MASTER_KEY")
MASTER_KEY_PREVIOUS = env.text("SLUICE_MASTER_KEY_PREVIOUS")
PEPPER = env.text("SLUICE_PEPPER")
PEPPER_PREVIOUS = env.text("SLUICE_PEPPER_PREVIOUS")
LEAST_SECRET_CHARACTERS = {"SLUICE_SECRET_KEY": 50, "SLUICE_MASTER_KEY": 43, "SLUICE_PEPPER": 43}
WEAK_SECRETS = [name for name, least in LEAST_SECRET_CHARACTERS.items() if len(env.text(name)) < least]
"""Commands that need no secret (`price`, `check`) run without; whatever serves is refused by `config.fitness`."""
if not SECRET_KEY:
    SECRET_KEY = secrets.token_urlsafe(50)  # signs nothing that outlives this command

DEBUG = False
PUBLIC_URL = env.text("SLUICE_PUBLIC_URL").rstrip("/")
_public = urlsplit(PUBLIC_URL)
ALLOWED_HOSTS = [_public.hostname or "localhost", *env.words("SLUICE_ALLOWED_HOSTS")]
if not PRODUCTION:
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]", "testserver"]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if _public.scheme == "https" else []

# --- Apps -------------------------------------------------------------------------------------------------------------
SHARED_APPS = [
    "django_tenants",
    "workspaces",
    "billing",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "guardrails.signals",
    "guardrails.anomalies",
    "guardrails.waste",
    "gateway",
    "config.apps.Wiring",
]
TENANT_APPS = ["workspaces.vault", "workspaces.directory", "workspaces.routes", "billing.saved", "guardrails"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]

TENANT_MODEL = "workspaces.Workspace"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_LIMIT_SET_CALLS = True  # one SET search_path a connection and tenant, not one a query (STACK.md)

AUTH_USER_MODEL = "workspaces.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "workspaces.middleware.WorkspaceMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- Stores -----------------------------------------------------------------------------------------------------------
_database = urlsplit(env.text("DATABASE_URL") or "postgresql://sluice@127.0.0.1:5432/sluice")
_options = {name: values[-1] for name, values in parse_qs(_database.query).items()}
DATABASES = {
    "default": {
        "ENGINE": "django_tenants.postgresql_backend",
        "NAME": unquote(_database.path.lstrip("/")) or "sluice",
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "HOST": _database.hostname or "",
        "PORT": str(_database.port or ""),
        # Under ASGI each request in flight holds a connection: without a pool the server runs out of them (STACK.md).
        "OPTIONS": {
            **_options,
            "pool": {"min_size": 1, "max_size": env.number("SLUICE_DATABASE_POOL", low=2, high=500), "timeout": 10},
        },
        "DISABLE_SERVER_SIDE_CURSORS": False,
    }
}
MONEY_REDIS_URL = env.redis("SLUICE_MONEY_REDIS_URL", 0)
MONEY_REDIS_CLUSTER = env.flag("SLUICE_MONEY_REDIS_CLUSTER")
BROKER_URL = env.redis("SLUICE_BROKER_URL", 1)
CACHE_URL = env.redis("SLUICE_CACHE_URL", 2)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": CACHE_URL,
        "OPTIONS": {"serializer": "config.cache.JsonSerializer"},  # no pickle in any Redis we read (S80)
    }
    if CACHE_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
SESSION_ENGINE = "django.contrib.sessions.backends.db"

# --- People -----------------------------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False  # a mail scanner that follows links must not verify an address
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Sluice] "
ACCOUNT_PREVENT_ENUMERATION = False  # the issue asks for a clear form error on a duplicate e-mail
ACCOUNT_DEFAULT_HTTP_PROTOCOL = _public.scheme or "http"
ACCOUNT_RATE_LIMITS = {} if MODE is Mode.TEST else {"login_failed": "10/m/ip,5/5m/key"}
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_AGE = 14 * 24 * 3600

# --- Browser security (SECURITY.md S55, S56) --------------------------------------------------------------------------
_https = _public.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "__Host-sluice_session" if _https else "sluice_session"
CSRF_COOKIE_NAME = "__Host-sluice_csrf" if _https else "sluice_csrf"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = False  # TLS ends at the proxy; it redirects
SILENCED_SYSTEM_CHECKS = ["security.W008"]
SECURE_HSTS_SECONDS = 63_072_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "manifest-src": ["'self'"],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

# --- Static, language, time -------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [ROOT / "static"]
STATIC_ROOT = env.home / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# --- Mail -------------------------------------------------------------------------------------------------------------
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("SLUICE_MAIL_FROM")
globals().update(mail_settings(env.text("EMAIL_URL")))

# --- REST API ---------------------------------------------------------------------------------------------------------
API_REQUESTS_A_MINUTE = env.number("SLUICE_API_REQUESTS_A_MINUTE", low=0)
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["workspaces.parsers.BoundedJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["workspaces.authentication.ApiTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["workspaces.permissions.Denied"],
    "DEFAULT_SCHEMA_CLASS": "workspaces.openapi.Described",
    "EXCEPTION_HANDLER": "workspaces.problems.problem_details",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Sluice",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "The REST API of Sluice: whatever the browser can do, for automation. Guide: docs/rest-api.md.",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "workspaces.openapi.manners"],
    "ENUM_NAME_OVERRIDES": {
        "RaiseState": "guardrails.models.RaiseState",
        "CallState": ["settled", "void", "expired"],
        "WorkspaceState": "workspaces.models.WorkspaceState",
        "WasteState": "guardrails.waste.models.State",
        "WasteLever": "guardrails.waste.api_shapes._LEVERS",
        "EndpointKind": "guardrails.signals.models.EndpointKind",
        "AnomalyKind": "guardrails.anomalies.models.KINDS",
        "AnomalyResponse": "guardrails.anomalies.models.RESPONSES",
    },
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

# --- Gateway ----------------------------------------------------------------------------------------------------------
ALLOW_PRIVATE_UPSTREAMS = env.flag("SLUICE_ALLOW_PRIVATE_UPSTREAMS")
SIMULATOR_URL = env.text("SLUICE_SIMULATOR_URL").rstrip("/")
INBOX_URL = env.text("SLUICE_INBOX_URL")
MAX_BODY_BYTES = env.number("SLUICE_MAX_BODY_BYTES", low=1024)
MAX_UPLOAD_BYTES = env.number("SLUICE_MAX_UPLOAD_BYTES", low=1024)
UPLOAD_MEMORY_BYTES = env.number("SLUICE_UPLOAD_MEMORY_BYTES", low=1024)
MAX_CONCURRENT_CALLS = env.number("SLUICE_MAX_CONCURRENT_CALLS", low=1)
UPSTREAM_FIRST_BYTE_S = env.number("SLUICE_FIRST_BYTE_SECONDS", low=1, high=86_400)
UPSTREAM_IDLE_S = env.number("SLUICE_IDLE_SECONDS", low=1, high=86_400)
UPSTREAM_TOTAL_S = env.number("SLUICE_TOTAL_SECONDS", low=1, high=86_400)
REALTIME_IDLE_S = env.number("SLUICE_REALTIME_IDLE_SECONDS", low=1, high=86_400)
REALTIME_TOTAL_S = env.number("SLUICE_REALTIME_TOTAL_SECONDS", low=1, high=86_400)
DRAIN_SECONDS = env.number("SLUICE_DRAIN_SECONDS", high=3600)
CRASH_AT = env.text("SLUICE_CRASH_AT") if MODE is Mode.TEST else ""

# --- Logs: to standard output; what may be logged is decided where it is logged (allow-list, S12) ---------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("SLUICE_LOG_LEVEL")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        # Three lines a tick, a tick a second.
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        # These print whole requests, keys included, at DEBUG.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
