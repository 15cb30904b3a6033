from careflow_storage.doctor import *  # noqa: F403  # all of it has moved
